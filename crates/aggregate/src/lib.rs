//! Reducers over lifetime, tumbling and sliding windows.
