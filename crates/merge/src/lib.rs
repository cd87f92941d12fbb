//! Folds live events into the value a stream shows: crud, latest, set, presence, cursor.
