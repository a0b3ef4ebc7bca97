//! Whether a request may go to a server: its body's beginning, where that says who logs on, and the guard's word.

use std::future::poll_fn;
use std::time::Duration;

use tokio::time::timeout;

use super::{Dial, Next, Session};
use crate::proxy::cause::Cause;
use crate::proxy::client::Client;
use crate::proxy::guard::{Asked, Refusal, Ticket};
use crate::proxy::http1::{Head, request};
use crate::proxy::link::LinkError;
use crate::proxy::policy::Reply;
use crate::proxy::seen::Record;

/// Why a request goes to no server.
pub(super) enum NotAdmitted {
    Refused(Refusal),
    /// Its logon form did not come in time.
    Slow,
    /// Its client is gone.
    Gone,
}

impl<C, D> Session<C, D>
where
    C: Client,
    D: Dial,
{
    /// Waits for the guard to let a request pass.
    pub(super) async fn admit(
        &mut self,
        head: &Head,
        framing: request::Framing<'_>,
        site: usize,
        target: &str,
    ) -> Result<Ticket, NotAdmitted> {
        let guard = &self.served.guard;
        let form = match guard.wants_form(head, target, framing.body) {
            None => None,
            Some(length) => {
                let client = &mut self.client;
                let whole =
                    poll_fn(|cx| client.poll_peek(cx, length).map_ok(|form| form.map(<[u8]>::to_vec)));
                match timeout(self.served.limits.head, whole).await {
                    Err(_) => return Err(NotAdmitted::Slow),
                    Ok(Err(LinkError::Violation(_) | LinkError::Cut | LinkError::Io(_)) | Ok(None)) => {
                        return Err(NotAdmitted::Gone);
                    }
                    Ok(Ok(Some(form))) => Some(form),
                }
            }
        };
        let client = self.from();
        let asked = Asked { site, client, head, target, form: form.as_deref() };
        guard.admit(asked).await.map_err(NotAdmitted::Refused)
    }

    /// Answers a request that was not admitted.
    pub(super) async fn not_admitted(
        &mut self,
        framing: request::Framing<'_>,
        mut record: Record<'_>,
        refused: NotAdmitted,
    ) -> Next {
        match refused {
            NotAdmitted::Refused(refusal) => {
                tracing::debug!(client = %self.from(), why = %refusal.why, "a request was refused");
                record.outcome.cause = Some(Cause::Limit);
                record.why = Some(refusal.why.to_string());
                let retry_after = Some(Duration::from_secs(refusal.seconds()));
                let reply = Reply { retry_after, ..super::answer::refusal(429) };
                self.answer(framing, record, &reply, None).await
            }
            NotAdmitted::Slow => self.answer_and_close(record, Cause::ClientSlow, 408),
            NotAdmitted::Gone => Next::Drop,
        }
    }
}
