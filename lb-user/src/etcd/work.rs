//! What the agent asks, as questions to etcd. What comes back is bounded in number and size; whether it is what its name says is for the
//! agent to find out.

use super::Settings;
use super::json;
use super::key::{Key, MOST_KEYS, Prefix, Tally, parts};
use super::request::{Reply, Request};
use super::session::{Session, Trouble};
use crate::shared::exchange::Listing;
use crate::shared::generation::{GenerationId, MAX_BYTES};

/// Where in etcd.
#[derive(Clone, Debug)]
pub struct Place {
    /// What its keys begin with.
    pub prefix: Prefix,
}

impl Place {
    /// The one that the settings name.
    pub fn of(settings: &Settings) -> Self {
        Self { prefix: Prefix::new(&settings.prefix) }
    }

    /// Does what is asked.
    pub async fn answer(&self, session: &mut Session, request: &Request) -> Result<Reply, Trouble> {
        match request {
            Request::List => self.list(session).await.map(Reply::Listing),
            Request::Heads(ids) => self.values(session, ids.iter().copied().map(Key::Head)).await,
            Request::Records(pairs) => {
                let keys = pairs.iter().map(|(about, id)| Key::Record { about: *about, id: *id });
                self.values(session, keys).await
            }
            Request::Content(id) => self.content(session, *id).await,
            Request::Put { id, head, content } => {
                for (key, part) in content.iter().flat_map(|content| parts(*id, content)) {
                    self.put(session, key, part).await?;
                }
                self.put(session, Key::Head(*id), head).await
            }
            Request::PutRecord { about, id, bytes } => {
                self.put(session, Key::Record { about: *about, id: *id }, bytes).await
            }
            Request::LetGo { contents, generations } => self.let_go(session, contents, generations).await,
        }
    }

    /// Whether etcd answers for more than itself.
    pub async fn ping(&self, session: &mut Session) -> Result<(), Trouble> {
        let range = self.prefix.all();
        let answer = session.ask(json::RANGE, &json::keys(&range, 1)).await?;
        Ok(json::read_keys(&answer, &range, 1).map(drop)?)
    }

    async fn list(&self, session: &mut Session) -> Result<Listing, Trouble> {
        Ok(self.tally(session, self.prefix.all()).await?.listing())
    }

    /// The keys of a range, in pages.
    async fn tally(
        &self,
        session: &mut Session,
        mut range: std::ops::Range<Vec<u8>>,
    ) -> Result<Tally, Trouble> {
        let (mut tally, mut count) = (Tally::default(), 0);
        loop {
            let answer = session.ask(json::RANGE, &json::keys(&range, PAGE)).await?;
            let page = json::read_keys(&answer, &range, PAGE)?;
            count += page.keys.len();
            if count > MOST_KEYS {
                return Err(Trouble::TooMany);
            }
            page.keys.iter().filter_map(|key| self.prefix.read(key)).for_each(|key| tally.count(key));
            match page.keys.into_iter().next_back().filter(|_| page.more) {
                // The least that is greater.
                Some(last) => range.start = [&last[..], &[0]].concat(),
                None => return Ok(tally),
            }
        }
    }

    /// Those values that are there, up to what a message holds.
    async fn values(&self, session: &mut Session, keys: impl Iterator<Item = Key>) -> Result<Reply, Trouble> {
        let (mut pieces, mut room) = (Vec::new(), MAX_BYTES);
        for key in keys {
            let Some(value) = self.value(session, key).await? else { continue };
            let Some(left) = room.checked_sub(value.len()) else { break };
            room = left;
            pieces.push(value);
        }
        Ok(Reply::Pieces(pieces))
    }

    async fn content(&self, session: &mut Session, id: GenerationId) -> Result<Reply, Trouble> {
        let tally = self.tally(session, self.prefix.contents(id)).await?;
        let Some(count) = tally.whole(id) else { return Ok(Reply::Pieces(Vec::new())) };
        let mut content = Vec::new();
        for number in 0..count {
            let part = self.value(session, Key::Part { of: id, number, count }).await?;
            // It was let go of meanwhile.
            let Some(part) = part else { return Ok(Reply::Pieces(Vec::new())) };
            if content.len() + part.len() > MAX_BYTES {
                return Err(Trouble::TooLong);
            }
            content.extend_from_slice(&part);
        }
        Ok(Reply::Pieces(vec![content]))
    }

    async fn value(&self, session: &mut Session, key: Key) -> Result<Option<Vec<u8>>, Trouble> {
        let key = self.prefix.key(key);
        let answer = session.ask(json::RANGE, &json::value(&key)).await?;
        Ok(json::read_value(&answer, &key)?)
    }

    async fn put(&self, session: &mut Session, key: Key, value: &[u8]) -> Result<Reply, Trouble> {
        // What is under a name is the same from every node: that it is there already is as good.
        session.ask(json::TXN, &json::put_new(&self.prefix.key(key), value)).await?;
        Ok(Reply::Done)
    }

    async fn let_go(
        &self,
        session: &mut Session,
        contents: &[GenerationId],
        generations: &[GenerationId],
    ) -> Result<Reply, Trouble> {
        // Headers first: whoever sees one is to find the rest.
        for id in generations {
            for range in [self.prefix.head(*id), self.prefix.records(*id), self.prefix.contents(*id)] {
                session.ask(json::DELETE, &json::delete(&range)).await?;
            }
        }
        for id in contents {
            session.ask(json::DELETE, &json::delete(&self.prefix.contents(*id))).await?;
        }
        Ok(Reply::Done)
    }
}

/// Keys that are asked for at once.
const PAGE: usize = 2000;
