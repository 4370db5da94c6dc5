//! Mark and sweep over any graph, with lease roots, and its scheduler.
