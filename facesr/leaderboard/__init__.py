"""The leaderboard of a competition: archives come in, are verified and scored, and ranked."""
