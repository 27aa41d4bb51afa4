"""Who answers a turn.

choice.py     which model answers, and what it is asked
upstream.py   the model API: connections, retries, errors
titles.py     ask the model for a chat's title
agents/       machines that dial in and answer
"""
