"""The client of Reddit's API, and the passes over a subreddit."""
