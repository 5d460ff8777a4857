"""bitbeam, the program: options, the graph, launching, progress, exit codes."""
