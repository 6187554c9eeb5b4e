//! Connections of one's own, for commands that wait in the server: on a shared one all others would wait behind them.

use std::sync::OnceLock;
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError};
use redis::{AsyncConnectionConfig, Pipeline, RedisError, Value};
use tokio::time::timeout;

use crate::fault::Fault;
use crate::link::Setup;

/// How many commands of a backend may wait in a server at once. Who comes after them waits for a connection.
const MOST: usize = 128;

/// A pool of connections, each lent to one command at a time. One that has not brought a whole answer never goes back:
/// what it would say next belongs to a caller who has left.
pub(crate) struct Blocking {
    setup: Setup,
    pool: OnceLock<Pool>,
}

impl Blocking {
    pub(crate) fn new(setup: Setup) -> Self {
        Self { setup, pool: OnceLock::new() }
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Sends `pipeline`, of which the last command may wait in the server for `wait`, and gives the answers. In all it
    /// takes the wait and the deadline at most, the connection included.
    pub(crate) async fn ask(&self, pipeline: &Pipeline, wait: Duration) -> Result<Vec<Value>, Fault> {
        let (deadline, began) = (self.setup.deadline, self.setup.clock.now());
        let late = |time: Duration| move |_| Fault::Timeout(time);
        let mut own = timeout(deadline, self.checkout()).await.map_err(late(deadline))??;
        let left = deadline.saturating_sub(self.setup.clock.now().since(began));
        let asked = timeout(wait.saturating_add(left), own.ask(pipeline, self.setup.asks)).await;
        let values = asked.map_err(late(wait.saturating_add(deadline)))??;
        // A server that refuses may have become another: a replica, say.
        if !values.iter().any(|value| matches!(value, Value::ServerError(_))) {
            own.give_back();
        }
        Ok(values)
    }

    async fn checkout(&self) -> Result<Own, Fault> {
        match self.pool()?.get().await {
            Ok(connection) => Ok(Own(Some(connection))),
            Err(PoolError::Backend(error)) => Err(error.into()),
            Err(_) => Err(Fault::Garbled("the pool has no connection to give")),
        }
    }

    fn pool(&self) -> Result<&Pool, Fault> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        // The deadline is ours, and longer than any wait.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let manager = Manager::new_with_config(self.setup.client.get_connection_info().clone(), config)?;
        let pool = Pool::builder(manager).max_size(MOST).build();
        let pool = pool.map_err(|_| Fault::Garbled("the pool cannot be made"))?;
        Ok(self.pool.get_or_init(|| pool))
    }
}

/// A connection that is thrown away unless it is given back.
struct Own(Option<Connection>);

impl Own {
    async fn ask(&mut self, pipeline: &Pipeline, asks: bool) -> Result<Vec<Value>, RedisError> {
        let Some(connection) = &mut self.0 else { return Ok(Vec::new()) };
        if !asks {
            return connection.send_packed_commands(pipeline, 0, pipeline.len()).await;
        }
        let mut asking = Pipeline::with_capacity(pipeline.len() * 2);
        for command in pipeline.cmd_iter() {
            asking.cmd("ASKING").add_command(command.clone());
        }
        let values = connection.send_packed_commands(&asking, 0, asking.len()).await?;
        Ok(values.into_iter().skip(1).step_by(2).collect())
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Connection::take(connection));
        }
    }
}
