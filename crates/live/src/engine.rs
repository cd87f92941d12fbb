//! What everything of one running application shares.

use std::sync::Arc;

use crate::app::App;
use crate::owners::Owners;
use crate::platform::Platform;

/// An application, the platform below it, and all state that outlives a call.
pub(crate) struct Engine<S, U> {
    pub(crate) app: Arc<App<S, U>>,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) owners: Owners,
}

impl<S, U> Engine<S, U> {
    pub(crate) fn new(app: Arc<App<S, U>>, platform: Arc<dyn Platform>) -> Self {
        Self {
            app,
            platform,
            owners: Owners::new(),
        }
    }
}
