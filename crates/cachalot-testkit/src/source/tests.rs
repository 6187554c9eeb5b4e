use super::*;
use crate::{block_on, block_on_paused};

#[test]
fn a_load_stopped_after_reading_answers_what_it_read() {
    block_on(async {
        let source = CountingSource::with([("k", 1)]);
        let gate = source.stop_after_reading();
        let test = async {
            gate.reached(1).await;
            assert_eq!(source.running(), 1);
            source.set("k", 2);
            gate.open();
        };
        assert_eq!(tokio::join!(source.fetch(&"k"), test).0, Ok(1));
        assert_eq!(source.fetch(&"k").await, Ok(2));
        assert_eq!(source.running(), 0);
    });
}

#[test]
fn a_load_stopped_before_reading_reads_afterwards() {
    block_on(async {
        let source = CountingSource::with([("k", 1)]);
        let gate = source.stop_before_reading();
        let test = async {
            gate.reached(1).await;
            source.set("k", 2);
            gate.open();
        };
        assert_eq!(tokio::join!(source.fetch(&"k"), test).0, Ok(2));
    });
}

#[test]
fn a_dropped_load_is_no_longer_running() {
    block_on(async {
        let source = CountingSource::with([("k", 1)]);
        source.stop_before_reading();
        assert!(futures_util::poll!(Box::pin(source.fetch(&"k"))).is_pending());
        assert_eq!((source.running(), source.loads()), (0, 1));
    });
}

#[test]
fn loads_take_virtual_time_and_fail_by_script() {
    block_on_paused(async {
        let begin = tokio::time::Instant::now();
        let source = CountingSource::with([("k", 1)]).taking(Duration::from_secs(5));
        source.fail_by([false, true]);
        assert_eq!(source.load(&"k").await, Ok(Some(1)));
        assert_eq!(source.load(&"k").await, Err(SourceError::Told));
        assert_eq!(source.load_many(&["k", "none"]).await, Ok(vec![Some(1), None]));
        assert_eq!(begin.elapsed(), Duration::from_secs(15));
        assert_eq!((source.loads(), source.calls()), (4, 3));
    });
}

#[test]
fn writes_are_counted_and_fail_without_a_trace() {
    block_on(async {
        let source = CountingSource::new();
        source.fail_next(1);
        assert!(source.store(&"k", &1).await.is_err());
        assert_eq!((source.row(&"k"), source.stores()), (None, 0));
        source.store_many(&[(&"k", &1), (&"l", &2)]).await.unwrap();
        source.delete(&"k").await.unwrap();
        assert_eq!((source.row(&"k"), source.row(&"l"), source.stores()), (None, Some(2), 3));
    });
}
