//! Millstream core.
