//! What streams declare about their topics, wherever an event comes from.

use std::sync::Arc;

use hashbrown::HashMap;
use millstream_core::{RawJson, RawJsonRef};
use millstream_hub::Pattern;

use crate::error::LiveError;
use crate::module::Kind;
use crate::publish::REFRESHED;
use crate::stream::{Stream, apply};

/// Topics and the streams that declare something about what is published there.
pub(crate) struct Rules<S, U> {
    fixed: HashMap<String, Ruled<S, U>>,
    patterns: Vec<(Pattern, Ruled<S, U>)>,
}

/// A stream that declares something about its topics.
pub(crate) struct Ruled<S, U> {
    pub(crate) path: Arc<str>,
    /// Always a stream.
    pub(crate) kind: Arc<Kind<S, U>>,
}

impl<S, U> Clone for Ruled<S, U> {
    fn clone(&self) -> Self {
        Self {
            path: Arc::clone(&self.path),
            kind: Arc::clone(&self.kind),
        }
    }
}

impl<S, U> Ruled<S, U> {
    pub(crate) fn stream(&self) -> &Stream<S, U> {
        match &*self.kind {
            Kind::Stream(stream) => stream,
            _ => unreachable!("only streams have rules"),
        }
    }
}

impl<S, U> Rules<S, U> {
    pub(crate) fn new() -> Self {
        Self {
            fixed: HashMap::new(),
            patterns: Vec::new(),
        }
    }

    /// Takes in an entry, if it declares anything.
    pub(crate) fn add(&mut self, path: &Arc<str>, kind: &Arc<Kind<S, U>>) {
        let Kind::Stream(stream) = &**kind else {
            return;
        };
        if !stream.shapes_events() {
            return;
        }
        let ruled = Ruled {
            path: Arc::clone(path),
            kind: Arc::clone(kind),
        };
        if let Some(pattern) = &stream.topics {
            self.patterns.push((pattern.clone(), ruled.clone()));
        }
        if let Some(topic) = &stream.fixed {
            self.fixed.insert(topic.clone(), ruled);
        }
    }

    /// The stream that a topic belongs to. O(1) for fixed topics, else O(patterns).
    pub(crate) fn of(&self, topic: &str) -> Option<&Ruled<S, U>> {
        self.fixed.get(topic).or_else(|| {
            let mut patterns = self.patterns.iter();
            patterns
                .find(|(pattern, _)| pattern.matches(topic))
                .map(|(_, ruled)| ruled)
        })
    }
}

impl<S, U> Stream<S, U> {
    /// Whether events on the stream's topics are treated in any special way.
    pub(crate) fn shapes_events(&self) -> bool {
        self.transform.is_some() || self.volatile || self.coalesce.is_some() || self.held.is_some()
    }

    /// The data of an event as subscribers see it.
    pub(crate) fn shape_event(
        &self,
        event: &str,
        data: RawJsonRef<'_>,
    ) -> Result<Option<RawJson>, LiveError> {
        match &self.transform {
            None => Ok(None),
            // Everything at once, as the loader gives it.
            Some(project) if event == REFRESHED => apply(project, data).map(Some),
            Some(_) if data.is_null() => Ok(None),
            Some(project) => project(data).map(Some),
        }
    }
}
