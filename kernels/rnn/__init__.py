"""Recurrent layers: one layer, one direction of LSTM, GRU or plain RNN as a single operation."""
