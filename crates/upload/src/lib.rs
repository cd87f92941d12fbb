//! The state of chunked uploads: order, credit, caps, cancellation, continuation.
