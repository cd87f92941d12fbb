//! Millstream server.
