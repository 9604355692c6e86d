"""Who owns a clock, the queue and the lanes, and asks a policy what to do."""
