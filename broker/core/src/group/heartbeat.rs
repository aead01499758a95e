//! Heartbeat: a member is alive, and learns of a rebalance.

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::HeartbeatRequest;

use super::reply;
use super::shard::GroupShard;
use super::state::GroupState;

impl GroupShard {
    pub(super) fn heartbeat(&mut self, token: u64, request: &HeartbeatRequest) {
        let error = self.check_heartbeat(request).err();
        self.ctx.reply(token, reply::heartbeat(error));
    }

    fn check_heartbeat(&mut self, request: &HeartbeatRequest) -> Result<(), KafkaError> {
        let group = self
            .groups
            .get(request.group_id.as_str())
            .ok_or(KafkaError::UnknownMemberId)?;
        group.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != group.generation {
            return Err(KafkaError::IllegalGeneration);
        }
        match group.state {
            GroupState::Empty | GroupState::Dead => Err(KafkaError::UnknownMemberId),
            GroupState::PreparingRebalance => {
                self.ctx.renew_session(group, &request.member_id);
                Err(KafkaError::RebalanceInProgress)
            }
            // Members may send heartbeats as soon as they know their generation.
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.ctx.renew_session(group, &request.member_id);
                Ok(())
            }
        }
    }
}
