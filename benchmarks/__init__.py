"""What the exporter costs, side by side with what users would otherwise run: make bench, make soak."""
