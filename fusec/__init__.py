"""fusec: compile many trained models together and run them on one device."""
