"""The application: command line, demo, collection, closed-loop evaluation and bags."""
