//! What the engine has to do, in lists that are searched from end to end.

use bytes::Bytes;
use millstream_replay::{ENTRY_COST, Limits, Numbers, Outcome, Read, TOPIC_COST};

pub(crate) struct Topic {
    pub(crate) name: usize,
    name_bytes: usize,
    /// Which life of the name this is.
    life: u64,
    pub(crate) head: u64,
    pub(crate) frames: Vec<Bytes>,
}

/// The model's cursor.
pub(crate) struct Place {
    name: usize,
    life: u64,
    pub(crate) next: u64,
    pub(crate) last: u64,
}

pub(crate) struct Model {
    limits: Limits,
    /// Least recently used first.
    pub(crate) topics: Vec<Topic>,
    /// Costs of frames of evicted topics.
    retired: Vec<Vec<usize>>,
    /// Evicted first first.
    pub(crate) remembered: Vec<(usize, u64)>,
    floor: u64,
    lives: u64,
}

fn cost(frame: &Bytes) -> usize {
    frame.len() + ENTRY_COST
}

impl Topic {
    fn bytes(&self) -> usize {
        self.frames.iter().map(cost).sum()
    }

    fn oldest(&self) -> u64 {
        self.head - self.frames.len() as u64 + 1
    }
}

impl Model {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            floor: limits.first_number,
            limits,
            topics: Vec::new(),
            retired: Vec::new(),
            remembered: Vec::new(),
            lives: 0,
        }
    }

    pub(crate) fn entries(&self) -> usize {
        let kept: usize = self.topics.iter().map(|topic| topic.frames.len()).sum();
        kept + self.retired.iter().map(Vec::len).sum::<usize>()
    }

    pub(crate) fn bytes(&self) -> usize {
        let kept: usize = self
            .topics
            .iter()
            .map(|topic| topic.bytes() + TOPIC_COST + topic.name_bytes)
            .sum();
        kept + self.retired.iter().flatten().sum::<usize>()
    }

    pub(crate) fn peek_head(&self, name: usize) -> u64 {
        match self.topics.iter().find(|topic| topic.name == name) {
            Some(topic) => topic.head,
            None => self.remembered_number(name),
        }
    }

    pub(crate) fn head_of(&self, name: usize) -> u64 {
        self.topics
            .iter()
            .find(|topic| topic.name == name)
            .expect("open")
            .head
    }

    fn remembered_number(&self, name: usize) -> u64 {
        let known = self.remembered.iter().find(|(other, _)| *other == name);
        known.map_or(self.floor, |(_, number)| *number)
    }

    pub(crate) fn open(&mut self, name: usize, text: &str) {
        if self.touch(name) {
            return;
        }
        if self.topics.len() == self.limits.topics_max {
            self.remove(0);
        }
        let head = self.remembered_number(name);
        self.remembered.retain(|(other, _)| *other != name);
        self.lives += 1;
        self.topics.push(Topic {
            name,
            name_bytes: text.len(),
            life: self.lives,
            head,
            frames: Vec::new(),
        });
        self.make_room(TOPIC_COST + text.len());
    }

    pub(crate) fn push(&mut self, name: usize, text: &str, at: Option<u64>, frame: Bytes) -> u64 {
        self.open(name, text);
        let added = cost(&frame);
        let ring = self.limits.ring;
        let topic = self.topics.last_mut().expect("just opened");
        let number = at.unwrap_or(topic.head + 1);
        if number != topic.head + 1 && !topic.frames.is_empty() {
            self.retired
                .push(topic.frames.drain(..).map(|frame| cost(&frame)).collect());
        }
        topic.head = number;
        topic.frames.push(frame);
        if added > ring.bytes_max {
            topic.frames.clear();
        }
        while topic.frames.len() > ring.entries_max as usize || topic.bytes() > ring.bytes_max {
            topic.frames.remove(0);
        }
        for _ in 0..8 {
            self.give_back();
        }
        self.make_room(added);
        number
    }

    fn make_room(&mut self, added: usize) {
        let mut steps = 64 + added / ENTRY_COST;
        while self.bytes() > self.limits.bytes_max || self.entries() > self.limits.entries_max {
            let own = self.topics.len() - 1;
            if steps == 0 || (self.retired.is_empty() && own == 0) {
                if self.topics[own].frames.is_empty() {
                    return;
                }
                self.topics[own].frames.remove(0);
                continue;
            }
            steps -= 1;
            if self.give_back() {
                continue;
            }
            if !self.topics[0].frames.is_empty() {
                self.topics[0].frames.remove(0);
            }
            if self.topics[0].frames.is_empty() {
                self.remove(0);
            }
        }
    }

    fn give_back(&mut self) -> bool {
        let Some(frames) = self.retired.first_mut() else {
            return false;
        };
        frames.remove(0);
        if frames.is_empty() {
            self.retired.remove(0);
        }
        true
    }

    fn remove(&mut self, index: usize) {
        let topic = self.topics.remove(index);
        if !topic.frames.is_empty() {
            self.retired.push(topic.frames.iter().map(cost).collect());
        }
        if self.limits.numbers == Numbers::Restart {
            return;
        }
        self.remembered.push((topic.name, topic.head));
        if self.remembered.len() > self.limits.remembered_max {
            let (_, number) = self.remembered.remove(0);
            self.floor = self.floor.max(number);
        }
    }

    fn touch(&mut self, name: usize) -> bool {
        let Some(index) = self.topics.iter().position(|topic| topic.name == name) else {
            return false;
        };
        let topic = self.topics.remove(index);
        self.topics.push(topic);
        true
    }

    pub(crate) fn touch_by_reading(&mut self, name: usize) {
        if self.limits.reads_count_as_use {
            self.touch(name);
        }
    }

    pub(crate) fn since(&mut self, name: usize, number: u64) -> (Outcome, Option<Place>) {
        self.touch_by_reading(name);
        let topic = self.topics.iter().find(|topic| topic.name == name);
        let head = self.peek_head(name);
        let oldest = topic.map_or(head + 1, Topic::oldest);
        let outcome = if number > head {
            Outcome::Ahead { head }
        } else if number + 1 < oldest {
            Outcome::Gap { resumes_at: oldest }
        } else {
            Outcome::Complete
        };
        let place = topic.map(|topic| Place {
            name,
            life: topic.life,
            next: number.saturating_add(1),
            last: u64::MAX,
        });
        (outcome, place)
    }

    pub(crate) fn read(&self, place: &mut Place) -> Read<'_> {
        let same = |topic: &&Topic| topic.name == place.name && topic.life == place.life;
        let Some(topic) = self.topics.iter().find(same) else {
            return Read::Gone;
        };
        let head = topic.head;
        if place.next > head || place.next > place.last {
            return Read::End { head };
        }
        if place.next < topic.oldest() {
            place.next = topic.oldest();
            return Read::Gap {
                resumes_at: place.next,
            };
        }
        let number = place.next;
        place.next += 1;
        let index = usize::try_from(number - topic.oldest()).expect("small");
        Read::Frame {
            number,
            frame: &topic.frames[index],
        }
    }

    pub(crate) fn clear_topic(&mut self, name: usize) -> bool {
        let index = self.topics.iter().position(|topic| topic.name == name);
        if let Some(index) = index {
            self.remove(index);
        }
        index.is_some()
    }

    pub(crate) fn clear(&mut self) {
        while !self.topics.is_empty() {
            self.remove(0);
        }
        self.retired.clear();
    }

    pub(crate) fn reset(&mut self) {
        self.clear();
        self.remembered.clear();
        self.floor = self.limits.first_number;
    }
}
