"""What is measured: speed, costs, and what is lost when everything breaks."""
