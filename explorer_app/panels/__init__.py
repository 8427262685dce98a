"""The window's panels: each draws a state and returns the state it became."""
