//! Per-topic numbers and rings of shared frames: everything after n, or the truth about the gap.
