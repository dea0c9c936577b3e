//! What a feature registers with the front: paths, and a share of the connections.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::MethodRouter;
use whimbrel_http::places::Share;

use super::cors::{self, Cors, Policy};
use super::problem::Problem;
use super::request::Caller;

/// How many requests of a feature may be under way, as the configuration says now.
pub type ShareSize = Arc<dyn Fn() -> usize + Send + Sync>;

/// The routes of a feature.
pub struct Routes {
    name: &'static str,
    size: ShareSize,
    paths: Vec<&'static str>,
    router: Router,
    ends_itself: bool,
    beside: Vec<Beside>,
}

/// Something that a feature begins on the server's thread.
pub(super) type Beside = Box<dyn FnOnce() + Send>;

impl Routes {
    /// Of a feature with this name, which may have so many requests under way at a time.
    pub fn new(name: &'static str, size: impl Fn() -> usize + Send + Sync + 'static) -> Routes {
        Routes {
            name,
            size: Arc::new(size),
            paths: Vec::new(),
            router: Router::new(),
            ends_itself: false,
            beside: Vec::new(),
        }
    }

    /// Answers a path (`{…}` stands for a part of it) by these handlers; `methods` names their methods for requests with
    /// another one.
    #[must_use]
    pub fn at(mut self, path: &'static str, methods: &'static str, handlers: MethodRouter) -> Routes {
        self.paths.push(path);
        self.router = self.router.route(path, handlers.fallback(move || wrong_method(methods)));
        self
    }

    /// As [`Routes::at`], of a path that pages of the web may use as far as `policy` lets them.
    #[must_use]
    pub fn at_for_pages(
        mut self,
        path: &'static str,
        methods: &'static str,
        handlers: MethodRouter,
        policy: Policy,
    ) -> Routes {
        self.paths.push(path);
        let layer = middleware::from_fn_with_state(Cors { policy, methods }, cors::share);
        let handlers = handlers.fallback(move || wrong_method(methods)).layer(layer);
        self.router = self.router.route(path, handlers);
        self
    }

    /// The feature sees itself to its requests when the server stops or is upgraded: they get through, and it waits for its
    /// answers.
    #[must_use]
    pub fn ends_itself(mut self) -> Routes {
        self.ends_itself = true;
        self
    }

    /// Does this on the server's thread when it starts; it may spawn tasks.
    #[must_use]
    pub fn beside(mut self, begin: impl FnOnce() + Send + 'static) -> Routes {
        self.beside.push(Box::new(begin));
        self
    }

    /// The paths of a feature that ends itself.
    pub(super) fn own_ends(&self) -> &[&'static str] {
        if self.ends_itself { &self.paths } else { &[] }
    }

    /// What it begins beside its routes.
    pub(super) fn take_beside(&mut self) -> Vec<Beside> {
        std::mem::take(&mut self.beside)
    }

    /// How many requests it may have under way.
    pub(super) fn size(&self) -> &ShareSize {
        &self.size
    }
}

/// All features' routes in one router.
///
/// # Errors
/// Two features have the same path.
pub(super) fn join(features: Vec<Routes>) -> Result<Router, String> {
    let mut taken: Vec<(String, &'static str)> = Vec::new();
    let mut router = Router::new();
    for (number, feature) in features.into_iter().enumerate() {
        for path in &feature.paths {
            let shape = shape(path);
            if let Some((_, other)) = taken.iter().find(|(other, _)| *other == shape) {
                return Err(format!("{} and {other} both answer {path}", feature.name));
            }
            taken.push((shape, feature.name));
        }
        let share = OfShare { number, size: feature.size };
        router = router.merge(feature.router.route_layer(middleware::from_fn_with_state(share, take_place)));
    }
    Ok(router
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing here") }))
}

/// A path without the names of its parts: two with one shape answer the same requests.
fn shape(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[derive(Clone)]
struct OfShare {
    number: usize,
    size: ShareSize,
}

/// Takes a place of the feature's share for a request.
async fn take_place(State(share): State<OfShare>, request: Request, next: Next) -> Response<Body> {
    let caller = request.extensions().get::<Caller>().cloned();
    let share = Share { number: share.number, most: (share.size)() };
    if caller.is_none_or(|caller| !caller.takes_place(share)) {
        return Problem::busy().into_response();
    }
    next.run(request).await
}

async fn wrong_method(allowed: &'static str) -> Response<Body> {
    let text = format!("this path takes {allowed}");
    let mut response =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", text).into_response();
    response.headers_mut().insert("allow", HeaderValue::from_static(allowed));
    response
}
