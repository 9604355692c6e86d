"""An LSTM with 8-bit weights whose inputs and states are quantised as they come."""
