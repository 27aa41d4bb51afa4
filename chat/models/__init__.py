"""Who answers a turn: the model API or an agent.

choice.py     which of them answers, and the request it gets
upstream.py   the model API: connections, retries, errors
titles.py     titles of chats, made by the model
agents/       machines that connect and answer
"""
