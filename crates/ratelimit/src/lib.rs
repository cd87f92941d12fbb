//! Fixed windows with bans, sliding windows, GCRA and admission classes at flat cost.
