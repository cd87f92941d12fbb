//! Millstream wire.
