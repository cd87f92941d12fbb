//! What everything of one running application shares.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use millstream_ratelimit::Keys;
use millstream_upload::Budget;
use parking_lot::Mutex;

use crate::app::App;
use crate::closing::Closings;
use crate::desk::Desk;
use crate::held::Store;
use crate::owners::Owners;
use crate::platform::Platform;
use crate::policy::{Locks, Plan, RateTable, Results};
use crate::skip::Windows;
use crate::stats::Counters;
use crate::warning::Warnings;
use crate::watch::Watches;

/// An application, the platform below it, and all state that outlives a call.
pub(crate) struct Engine<S, U> {
    pub(crate) app: Arc<App<S, U>>,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) owners: Owners,
    pub(crate) tables: Tables,
    pub(crate) locks: Locks,
    pub(crate) closings: Closings,
    pub(crate) windows: Mutex<Windows>,
    pub(crate) keys: Keys,
    pub(crate) counters: Counters,
    pub(crate) uploads: Arc<Desk>,
    pub(crate) warnings: Warnings,
    pub(crate) watches: Watches<S, U>,
    pub(crate) held: Store,
}

/// What limits and idempotent calls remember, by the numbers that `build` gave them.
pub(crate) struct Tables {
    pub(crate) rates: Box<[RateTable]>,
    pub(crate) results: Box<[Results]>,
}

impl Tables {
    fn new(plan: &Plan) -> Self {
        Self {
            rates: plan.rates.iter().copied().map(RateTable::new).collect(),
            results: plan.results.iter().cloned().map(Results::new).collect(),
        }
    }
}

impl<S, U> Engine<S, U> {
    pub(crate) fn new(app: Arc<App<S, U>>, platform: Arc<dyn Platform>) -> Self {
        // Two hashers, two secrets.
        let secret = || RandomState::new().hash_one(0_u8);
        let budget = Budget::new(app.limits.upload_budget);
        let uploads = Desk::new(app.limits.uploads, budget, Arc::clone(&platform));
        let entries = app.entries().map(|entry| (&entry.path, &entry.kind));
        Self {
            watches: Watches::new(entries),
            warnings: Warnings::default(),
            held: Store::default(),
            platform,
            owners: Owners::new(),
            tables: Tables::new(&app.plan),
            locks: Locks::new(),
            closings: Closings::new(),
            windows: Mutex::new(Windows::new(
                [secret(), secret()],
                app.limits.skip_windows_max,
            )),
            keys: Keys::new([secret(), secret()]),
            counters: Counters::default(),
            app,
            uploads: Arc::new(uploads),
        }
    }
}
