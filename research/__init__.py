"""What notebooks need to try an idea on stored bars: strategies, a backtest, labels, splits by time and drift."""
