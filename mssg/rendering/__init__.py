"""Pictures: what is asked for, how it is drawn, how it is written."""
