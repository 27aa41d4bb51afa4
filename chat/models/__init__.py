"""Who answers a turn: the model API or an agent.

choice.py     which of them answers, and the request it gets
upstream/     the model API: connections, retries, refusals
providers.py  the model API and its fallbacks, from the settings
titles.py     titles of chats, made by the model
agents/       machines that connect and answer
"""
