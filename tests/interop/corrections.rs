//! A get of ours corrects nodes of `libp2p-kad` that lack the value.

use std::num::NonZeroUsize;

use libp2p_kad as their_kad;
use libp2p_kad::store::RecordStore as _;
use libp2p_kad_dht::{QueryError, Quorum};

use crate::live::{Ours, soon, until};
use crate::theirs;

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_of_ours_gives_the_value_to_a_node_of_theirs_that_held_none() {
    let (holder, lacking) = (theirs::start(TWO).await, theirs::start(TWO).await);
    let key = their_kad::RecordKey::new(b"/test/corrected");
    let record = their_kad::Record::new(key.clone(), b"value".to_vec());
    holder.act(move |swarm| swarm.behaviour_mut().kad.store_mut().put(record).unwrap()).await;
    let reader = Ours::start().await;
    reader.learns(&holder).await;
    reader.learns(&lacking).await;
    // The quorum exceeds the number of holders, so that both are asked; the second one gets the value.
    let missed = soon(reader.dht.get(b"/test/corrected").quorum(Quorum::N(3.try_into().unwrap()))).await;
    assert!(matches!(missed, Err(QueryError::QuorumMissed { reached: 1, .. })), "{missed:?}");
    until("the other node of theirs holds it", async || {
        let key = key.clone();
        let held = lacking
            .act(move |swarm| swarm.behaviour_mut().kad.store_mut().get(&key).map(|record| record.value.clone()));
        (held.await.as_deref() == Some(&b"value"[..])).then_some(())
    })
    .await;
    let stats = soon(reader.dht.stats()).await.unwrap();
    assert_eq!(stats.stores.corrected, 1);
}
