"""The default policy: due times, and the slack that they leave."""
