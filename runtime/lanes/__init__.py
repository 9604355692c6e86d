"""What runs launches, concurrently with other lanes."""
