"""HTTP: from a Flask request to a Flask response. `routes` dispatches; one file per dialect."""
