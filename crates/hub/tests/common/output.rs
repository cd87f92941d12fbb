//! The rig's operations that produce output, and its final checks.

use super::*;

/// A member of a batched publish before it is one.
struct Draft {
    topic: &'static str,
    key: Option<&'static str>,
    data: String,
}

impl Rig {
    pub(super) fn publish(&mut self, choices: &mut Choices<'_>) {
        let topic = choices.topic();
        let size = choices.below(40);
        let how = choices.below(8);
        // Without limits there is no telling when exactly a connection has a backlog.
        let volatile = (how == 0 || topic == VOLATILE) && self.mode != Mode::Lossless;
        let numbered = how > 1;
        let data = format!("\"{}{}\"", self.unique(), "x".repeat(size * 4));
        let json = RawJsonRef::parse(data.as_bytes()).expect("json");
        let topics = Arc::clone(self.hub.topics());
        let now = Millis::from_millis(self.now);
        let publisher = Publisher {
            topics: &topics,
            inboxes: &NoInboxes,
            now,
        };
        let before = topics.head(topic).expect("known");
        let options = PublishOptions { numbered, volatile };
        let published = publisher
            .publish(Some(&mut self.hub), topic, "e", json, options)
            .expect("published");
        assert_eq!(
            published.seq,
            (numbered && !volatile).then_some(before + 1),
            "no holes"
        );
        let someone = self
            .beliefs
            .values()
            .any(|belief| belief.topics.contains(topic));
        assert_eq!(published.delivered, someone);
        let text = envelope(topic, "e", &data, published.seq);
        self.expect_event(topic, volatile, &text);
        if let Some(seq) = published.seq {
            self.past.note(topic, seq, &text);
        }
    }

    pub(super) fn publish_batched(&mut self, choices: &mut Choices<'_>) {
        let drafts: Vec<Draft> = (0..1 + choices.below(4))
            .map(|_| Draft {
                // Volatile members travel alone, so their place among the others is not fixed.
                topic: Some(choices.topic())
                    .filter(|topic| *topic != VOLATILE)
                    .unwrap_or("a"),
                key: [None, None, Some("k"), Some("l")][choices.below(4)],
                data: self.unique().to_string(),
            })
            .collect();
        let members: Vec<BatchMember<'_>> = drafts
            .iter()
            .map(|draft| BatchMember {
                topic: draft.topic,
                event: "e",
                data: RawJsonRef::parse(draft.data.as_bytes()).expect("json"),
                coalesce_key: draft.key,
                numbered: true,
            })
            .collect();
        let topics = Arc::clone(self.hub.topics());
        let now = Millis::from_millis(self.now);
        let publisher = Publisher {
            topics: &topics,
            inboxes: &NoInboxes,
            now,
        };
        let results = publisher
            .publish_batched(Some(&mut self.hub), &members, 100)
            .expect("published");
        for (at, (draft, result)) in drafts.iter().zip(&results).enumerate() {
            let replaced = drafts[at + 1..].iter().any(|later| later.key == draft.key);
            let survives = draft.key.is_none() || !replaced;
            assert_eq!(result.seq.is_some(), survives);
            if survives {
                let text = envelope(draft.topic, "e", &draft.data, result.seq);
                self.expect_event(draft.topic, false, &text);
                let seq = result.seq.expect("it survives");
                self.past.note(draft.topic, seq, &text);
            }
        }
    }

    fn expect_event(&mut self, topic: &'static str, volatile: bool, text: &str) {
        for belief in self.beliefs.values_mut() {
            let before = belief.held.get(topic).map_or(0, |held| held.dropped);
            belief.expect_event(topic, volatile, text);
            let after = belief.held.get(topic).map_or(0, |held| held.dropped);
            self.held_lost += u64::from(after - before);
        }
    }

    pub(super) fn send(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let data = self.unique().to_string();
        let json = RawJsonRef::parse(data.as_bytes()).expect("json");
        match self.hub.send(key, "direct", "d", json) {
            Sent::Queued => {
                let text = envelope("direct", "d", &data, None);
                self.belief(key).expect(Kind::Kept, text);
            }
            Sent::Gone => assert!(self.belief(key).closing),
            Sent::Dropped => {
                assert_ne!(self.mode, Mode::Lossless);
                self.direct_lost += 1;
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn send_coalesced(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let by = choices.byte() % 4;
        let data = self.unique().to_string();
        let json = RawJsonRef::parse(data.as_bytes()).expect("json");
        let text = envelope("keyed", "k", &data, None);
        let behind = self.hub.has_backlog(key);
        let sent = self
            .hub
            .send_coalesced(key, &by.to_string(), "keyed", "k", json);
        let belief = self.beliefs.get_mut(&key.to_u64()).expect("open");
        match sent {
            Sent::Queued => {
                assert!(!behind && belief.keyed.is_empty());
                belief.expect(Kind::Kept, text);
            }
            Sent::Coalesced => {
                assert!(behind);
                self.keyed_lost += belief.keep_keyed(by, text);
            }
            Sent::Gone => assert!(belief.closing),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn hello(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let caps = if choices.below(2) == 1 {
            "\"batch\""
        } else {
            ""
        };
        self.text(key, &format!(r#"{{"type":"hello","caps":[{caps}]}}"#));
    }

    pub(super) fn hold_or_release(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let topic = choices.topic();
        let (hold, holder) = (choices.below(2) == 0, 1 + choices.below(2) as u64);
        let belief = self.beliefs.get_mut(&key.to_u64()).expect("open");
        if hold {
            let can = belief.hold(topic, holder);
            assert_eq!(self.hub.hold(key, topic, holder), can);
        } else {
            let released = self.hub.release(key, topic, holder);
            let held = belief.release(topic, holder);
            assert_eq!(
                released.map(|released| (released.frames, released.dropped)),
                held.map(|held| (held.len(), held.dropped))
            );
        }
    }

    pub(super) fn say_close(&mut self, choices: &mut Choices<'_>) {
        // Rarely, or nothing else is left to look at.
        if choices.below(8) != 0 {
            return;
        }
        let Some(key) = self.pick(choices) else {
            return;
        };
        self.hub.say_close(key, 4000, "bye");
        self.belief(key).closing = true;
    }

    pub(super) fn limit_socket(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        match choices.below(16) {
            0..=2 => {
                self.wires.room.remove(&key);
            }
            3 if self.mode == Mode::Tight => self.wires.broken.push(key),
            _ => {
                self.wires.room.insert(key, choices.below(200));
            }
        }
        self.write_more(key);
    }

    pub(super) fn write_more(&mut self, key: Key) {
        let had = self.hub.has_backlog(key);
        let outcome = self.hub.write_more(key, &mut self.wires);
        let limited = self.wires.room.contains_key(&key);
        assert!(limited || outcome != Backlogged::Waiting);
        // A backlog of which nothing was kept is empty, and needs no socket to be drained.
        let failed = outcome == Backlogged::Failed;
        assert!(!failed || (had && self.wires.broken.contains(&key)));
        if outcome == Backlogged::Drained {
            self.belief(key).caught_up();
        }
    }

    pub(super) fn request(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let token = u64::from(self.unique());
        let wait = [0, 10, 20_000][choices.below(3)];
        let data = RawJsonRef::parse(b"[1]").expect("json");
        let now = Millis::from_millis(self.now);
        self.hub
            .request(key, token, "ask", data, Duration::from_millis(wait), now);
        let deadline = self.now + if wait == 0 { 5_000 } else { wait };
        let belief = self.belief(key);
        belief.requests.insert(token, deadline);
        let text = format!(r#"{{"type":"request","ref":{token},"event":"ask","data":[1]}}"#);
        belief.expect(Kind::Kept, text);
    }

    pub(super) fn reply(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        if self.belief(key).closing {
            return;
        }
        let nth = choices.below(4);
        let tokens: Vec<u64> = self.belief(key).requests.keys().copied().collect();
        // One too many: an answer nobody asked for.
        let unknown = u64::from(u32::MAX);
        let token = tokens.get(nth).copied().unwrap_or(unknown);
        let (text, answer) = match choices.below(3) {
            0 => (
                r#""error":"no""#,
                Err(RequestError::Client("no".to_owned())),
            ),
            _ => (r#""data":[2]"#, Ok("[2]")),
        };
        self.text(key, &format!(r#"{{"type":"reply","ref":{token},{text}}}"#));
        self.take_events();
        let due = self.belief(key).requests.remove(&token).is_some();
        let got = self.replies.remove(&token);
        let got = got
            .as_ref()
            .map(|got| got.as_ref().map(RawJson::as_str).map_err(Clone::clone));
        assert_eq!(got, due.then_some(answer));
    }

    pub(super) fn resume(&mut self, choices: &mut Choices<'_>) {
        let Some(key) = self.pick(choices) else {
            return;
        };
        let topics = Arc::clone(self.hub.topics());
        let head = |topic: &str| topics.head(topic).expect("known");
        let seen: BTreeMap<&'static str, u64> = (0..choices.below(4))
            .map(|_| {
                let topic = choices.topic();
                // Before everything, in reach, out of it, here, and of another life.
                let behind = [0, 1, 2, 3, 4, 7, -1][choices.below(7)];
                (topic, head(topic).saturating_add_signed(-behind))
            })
            .collect();
        if self.belief(key).closing {
            return;
        }
        let list: Vec<String> = seen
            .iter()
            .map(|(topic, n)| format!("\"{topic}\":{n}"))
            .collect();
        let list = list.join(",");
        self.text(
            key,
            &format!(r#"{{"type":"resume","sessionId":"x","lastSeenSeqs":{{{list}}}}}"#),
        );
        self.take_events();
        assert_eq!(self.resumes.pop(), Some(key));
        let until = self.now + RESUME_HOLD_MS;
        let belief = self.beliefs.get_mut(&key.to_u64()).expect("open");
        if !seen.is_empty() {
            belief.positions_until = until;
        }
        let topics: Vec<&'static str> = seen.keys().copied().collect();
        // A newer resume replaces the older.
        belief.positions = seen;
        for topic in topics {
            if belief.topics.contains(topic) {
                belief.catch_up(topic, &self.past, head(topic));
            }
        }
        self.hub.resumed(key);
        self.belief(key)
            .expect(Kind::Kept, r#"{"type":"resumed"}"#.to_owned());
    }

    pub(super) fn pass_time(&mut self, choices: &mut Choices<'_>) {
        // Whole ticks of the hub's timers: nothing is late then.
        self.now += [10, 20, 3_000, 6_000, 29_990][choices.below(5)];
        let now = Millis::from_millis(self.now);
        self.hub.set_now(now);
        let early = self.hub.next_deadline().is_none_or(|at| at > now);
        self.hub.handle_timeout(now);
        self.take_events();
        let mut due = 0;
        for belief in self.beliefs.values_mut() {
            let over: Vec<u64> = belief
                .requests
                .iter()
                .filter(|(_, deadline)| **deadline <= self.now)
                .map(|(token, _)| *token)
                .collect();
            for token in over {
                belief.requests.remove(&token);
                assert_eq!(
                    self.replies.remove(&token),
                    Some(Err(RequestError::TimedOut))
                );
                due += 1;
            }
            if belief.positions_until <= self.now {
                belief.positions.clear();
            }
            belief.expire_parked(self.now);
        }
        assert!(due == 0 || !early, "the hub has to say when it is due");
        assert!(
            self.replies.is_empty(),
            "an end too many: {:?}",
            self.replies
        );
    }

    pub(super) fn check_counts(&self) {
        let believed: usize = self
            .beliefs
            .values()
            .map(|belief| belief.topics.len())
            .sum();
        assert_eq!(self.hub.subscriptions(), believed);
        for (topic, _) in TOPICS {
            let holders = self
                .beliefs
                .values()
                .filter(|b| b.topics.contains(topic))
                .count();
            assert_eq!(
                self.hub.topics().subscribers(topic),
                holders as u64,
                "{topic}"
            );
        }
        if !self.hub.has_output() {
            let waiting: usize = self.keys.iter().map(|key| self.hub.pending(*key)).sum();
            assert_eq!(self.hub.backlog_bytes(), waiting, "the sum is kept right");
        }
    }

    pub(super) fn finish(mut self) {
        for key in std::mem::take(&mut self.keys) {
            self.keys.push(key);
            if !self.wires.broken.contains(&key) {
                self.read_all(key);
            }
            self.take_events();
            self.forget(key, true);
        }
        // The counters of the last turn.
        self.open();
        self.flush();
        assert_eq!(
            self.hub
                .topics()
                .stats()
                .slow_closed
                .load(Ordering::Relaxed),
            self.slow_closed
        );
        self.check_losses();
    }

    /// Every frame that somebody missed is in exactly the right counter. With connections that
    /// were closed on the way, what they had missed before is counted as well.
    fn check_losses(&self) {
        let stats = self.hub.topics().stats();
        let parts = [
            (&stats.dropped_newest, self.missed.newest),
            (&stats.dropped_oldest, self.missed.oldest),
            (
                &stats.dropped_coalesced,
                self.missed.coalesced + self.keyed_lost,
            ),
            (&stats.dropped_volatile, self.missed.volatile),
            (&stats.dropped_direct, self.direct_lost),
            (&stats.dropped_held, self.held_lost),
        ];
        let mut sum = 0;
        for (nth, (counter, missed)) in parts.into_iter().enumerate() {
            let counted = counter.load(Ordering::Relaxed);
            sum += counted;
            match self.mode {
                Mode::Tight => assert!(counted >= missed, "{nth}: {counted} < {missed}"),
                _ => assert_eq!(counted, missed, "counter {nth} of {:?}", self.missed),
            }
        }
        assert_eq!(stats.dropped(), sum);
    }
}
