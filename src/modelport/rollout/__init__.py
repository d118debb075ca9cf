"""Which version gets the traffic: plans, choices, comparisons and judgements. No clocks; one file of I/O."""
