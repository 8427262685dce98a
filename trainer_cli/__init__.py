"""The command line: `mssg`, `mssg-train`, `mssg-explore`. One thin file per command."""
