//! Imports: what was run elsewhere comes in as one command (I1).

use cellaflow_proto::v1;

use super::{Service, invalid};
use crate::graph::command::{Command, Reply};
use crate::ledger::{Origin, ReadError, Refused, Submission};
use crate::rpc::auth::Principal;
use crate::rpc::binding;
use crate::rpc::convert::{self, Intake};

impl Service {
    pub(super) async fn import(
        &self,
        caller: &Principal,
        mut request: v1::ImportSessionRequest,
    ) -> Result<v1::ImportSessionResponse, Refused> {
        let start = request.start.take().unwrap_or_default();
        if !start.instance.is_empty() || start.key.is_empty() || start.version.is_empty() {
            let message = "an import names a key and a version, and no instance: nobody runs it";
            return Err(Refused::Rejected(invalid(message)));
        }
        let start = convert::start(start, &mut |_| None).map_err(Refused::Rejected)?;
        let submission = binding::start(&self.context, caller, start, Origin::default()).await?;
        let Submission { command: Command::Start(start), mut blobs, new_lineage, origin, .. } = submission
        else {
            return Err(unexpected());
        };
        let info = self.context.ledger.namespace(&start.namespace).await?;
        let mut intake = Intake { blobs: &mut blobs, namespace_salt: &info.salt, transfers: &mut |_| None };
        let import = convert::import(start, request, &mut intake).map_err(Refused::Rejected)?;
        let command = Command::Import(Box::new(import));
        let submission = Submission { command, blobs, evidence: None, new_lineage, origin };
        let committed = self.context.ledger.submit(submission).await?;
        match (committed.reply, committed.head) {
            (Reply::Bound { created, .. }, Some(head)) => Ok(v1::ImportSessionResponse {
                session_id: head.session.to_string(),
                created,
                events: head.seq.0,
            }),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> Refused {
    Refused::Failed(ReadError::Fault("an import was answered with another command's reply".to_owned()))
}
