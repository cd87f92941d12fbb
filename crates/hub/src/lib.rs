//! Millstream hub.
