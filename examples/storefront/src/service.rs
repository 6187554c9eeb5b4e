//! The shop over HTTP.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use cachalot::patterns::Admission;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::pages::{Page, Pages, Stats};
use crate::shop::{CategoryId, CategoryPrices, Price, ProductId, Sale, Stock, UserId};

/// Tells where a page came from: `memory`, `redis`, `loaded` or `database`.
pub const PAGE_FROM: HeaderName = HeaderName::from_static("x-page-from");

/// Answers requests on `listener` until `stop` is ready, then finishes those in hand.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    pages: Pages,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let pages = Arc::new(pages);
    let limited = Router::new()
        .route("/products/{id}/orders", post(order))
        .route("/users/{id}/sessions", post(sign_in))
        .route_layer(from_fn_with_state(Arc::clone(&pages), admit));
    let routes = Router::new()
        .route("/products/{id}", get(product))
        .route("/products/{id}/price", put(reprice))
        .route("/products/{id}/stock", get(stock).put(set_stock))
        .route("/products/{id}/views", get(views).post(count_view))
        .route("/categories/{id}", get(listing))
        .route("/categories/{id}/prices", put(reprice_category))
        .route("/users/{id}", get(user))
        .route("/sessions/{id}", get(session).delete(sign_out))
        .route("/stats", get(stats))
        .merge(limited)
        .with_state(pages)
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = listener.tap_io(|connection| {
        // Else small answers wait for the acknowledgement of the last. A connection that refuses is slower.
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, routes).with_graceful_shutdown(stop).await
}

type Shop = State<Arc<Pages>>;

async fn product(State(pages): Shop, Path(id): Path<ProductId>) -> Result<Response, Failure> {
    found(pages.product(id).await?)
}

async fn listing(State(pages): Shop, Path(id): Path<CategoryId>) -> Result<Response, Failure> {
    found(pages.listing(id).await?)
}

async fn user(State(pages): Shop, Path(id): Path<UserId>) -> Result<Response, Failure> {
    found(pages.user(id).await?)
}

async fn stock(State(pages): Shop, Path(id): Path<ProductId>) -> Result<Response, Failure> {
    found(pages.stock(id).await?)
}

async fn set_stock(
    State(pages): Shop,
    Path(id): Path<ProductId>,
    Json(counted): Json<Stock>,
) -> Result<Json<Stock>, Failure> {
    let stock = pages.set_stock(id, counted).await?;
    stock.map(Json).ok_or(Failure::Unknown)
}

async fn sign_in(State(pages): Shop, Path(id): Path<UserId>) -> Result<Json<String>, Failure> {
    pages.sign_in(id).await?.map(Json).ok_or(Failure::Unknown)
}

/// Lets a caller through or says when to come back. A caller is an address: behind a proxy, take what that says. Reads are
/// not limited: most of them never leave this process, and asking Redis about each would cost more than answering it.
async fn admit(
    State(pages): Shop,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match pages.admit(caller.ip()).await {
        Admission::Allowed => next.run(request).await,
        Admission::Denied { retry_after } => {
            // In whole seconds, and rather one too many: who comes early is denied again.
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds.to_string())]).into_response()
        }
    }
}

/// The body of `POST /products/{id}/orders`.
#[derive(Deserialize)]
struct NewOrder {
    user: UserId,
    pieces: NonZeroU32,
}

async fn order(
    State(pages): Shop,
    Path(id): Path<ProductId>,
    Json(new): Json<NewOrder>,
) -> Result<Json<Sale>, Failure> {
    pages.order(new.user, id, new.pieces.get()).await?.map(Json).ok_or(Failure::Unknown)
}

async fn session(State(pages): Shop, Path(id): Path<String>) -> Result<Response, Failure> {
    found(pages.session(id).await?)
}

async fn sign_out(State(pages): Shop, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    pages.sign_out(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn views(State(pages): Shop, Path(id): Path<ProductId>) -> Result<Response, Failure> {
    found(pages.views(id).await?)
}

async fn count_view(State(pages): Shop, Path(id): Path<ProductId>) -> Result<StatusCode, Failure> {
    pages.count_view(id).await?.ok_or(Failure::Unknown)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The body of `PUT /products/{id}/price`.
#[derive(Deserialize)]
struct NewPrice {
    price_cents: u32,
}

async fn reprice(
    State(pages): Shop,
    Path(id): Path<ProductId>,
    Json(new): Json<NewPrice>,
) -> Result<Json<Price>, Failure> {
    let price = pages.reprice(id, new.price_cents).await?;
    price.map(Json).ok_or(Failure::Unknown)
}

/// The body of `PUT /categories/{id}/prices`.
#[derive(Deserialize)]
struct Dearer {
    by_cents: u32,
}

async fn reprice_category(
    State(pages): Shop,
    Path(id): Path<CategoryId>,
    Json(dearer): Json<Dearer>,
) -> Result<Json<CategoryPrices>, Failure> {
    let changed = pages.reprice_category(id, dearer.by_cents).await?;
    changed.map(Json).ok_or(Failure::Unknown)
}

async fn stats(State(pages): Shop) -> Json<Stats> {
    Json(pages.stats())
}

fn found<T: Serialize>(page: Option<Page<T>>) -> Result<Response, Failure> {
    let page = page.ok_or(Failure::Unknown)?;
    Ok(([(PAGE_FROM, page.from())], Json(page)).into_response())
}

enum Failure {
    Unknown,
    Broken(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND.into_response(),
            Self::Broken(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
            }
        }
    }
}
