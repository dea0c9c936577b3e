//! The store: its thread, the bound of its memory, and what is asked for at once.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt, RetryConfig, StaticCredentialProvider};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::connect;
use crate::failure::{Failure, Reason};
use crate::http::Client;
use crate::incoming::{Incoming, PART_BYTES};
use crate::settings::{Settings, WrongSettings};

/// Unit in which memory is given out.
const UNIT: usize = 1 << 10;

/// How long an upload waits for memory.
const MEMORY_WAIT: Duration = Duration::from_secs(10);

/// Attempts of a request beside the first, and the time after which none is made any more.
const RETRIES: usize = 2;
const RETRY_WITHIN: Duration = Duration::from_secs(20);

/// Objects that are removed at a time.
const REMOVALS: usize = 8;

/// Names that one listing returns at most.
const LISTED_MAX: usize = 200_000;

/// What is counted, by the store's thread.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that were sent, each attempt.
    pub requests: AtomicU64,
    /// Those that failed: without an answer, or with one that says so. That something is not there is no failure.
    pub failed: AtomicU64,
    /// Uploads that were begun before and were aborted because nobody finishes them.
    pub aborted: AtomicU64,
}

/// A store; clones are the same. The thread ends with the last one.
#[derive(Clone)]
pub struct Store(Arc<Owner>);

struct Owner {
    core: Arc<Core>,
    /// Dropped to end the thread.
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Option<JoinHandle<()>>,
}

/// What the store's tasks know.
pub(crate) struct Core {
    pub(crate) s3: AmazonS3,
    pub(crate) client: Client,
    pub(crate) credential: AwsCredential,
    pub(crate) settings: Settings,
    pub(crate) base: String,
    pub(crate) handle: Handle,
    pub(crate) counts: Arc<Counts>,
    memory: Arc<Semaphore>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.0.core.base).finish()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.stop.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Starts the thread. The store is not asked for anything yet.
    ///
    /// # Errors
    /// The settings cannot be used; the system's reason.
    pub fn start(settings: Settings) -> io::Result<Store> {
        let wrong = |error: WrongSettings| io::Error::new(io::ErrorKind::InvalidInput, error);
        settings.check().map_err(wrong)?;
        let base = settings.base().map_err(wrong)?;
        let counts = Arc::new(Counts::default());
        let tls = connect::tls(settings.roots.clone())?;
        let client = Client::new(tls, settings.request, counts.clone());
        let credential = || AwsCredential {
            key_id: settings.credentials.access_key.to_string(),
            secret_key: settings.credentials.secret_key.to_string(),
            token: None,
        };
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES,
            retry_timeout: RETRY_WITHIN,
        };
        // With the bucket in the host's name, the endpoint has to have it already.
        let endpoint = if settings.path_style { settings.endpoint.clone() } else { base.clone() };
        let s3 = AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_region(&settings.region)
            .with_bucket_name(&settings.bucket)
            .with_virtual_hosted_style_request(!settings.path_style)
            .with_allow_http(settings.allow_http)
            .with_credentials(Arc::new(StaticCredentialProvider::new(credential())))
            .with_retry(retry)
            .with_http_connector(client.clone())
            .build()
            .map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let core = Arc::new(Core {
            memory: Arc::new(Semaphore::new((settings.memory_bytes / UNIT).max(PART_BYTES / UNIT))),
            credential: credential(),
            handle: runtime.handle().clone(),
            s3,
            client,
            settings,
            base,
            counts,
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("objects".into()).spawn(move || {
            // However it comes: a sender that is dropped says the same.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Store(Arc::new(Owner { core, stop: Mutex::new(Some(stop)), thread: Some(thread) })))
    }

    /// Ends the thread: what is under way fails, and so does all that is asked for later.
    pub fn close(&self) {
        drop(self.0.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// What is counted.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.0.core.counts
    }

    /// Bytes of memory that uploads hold now.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let all = (self.0.core.settings.memory_bytes / UNIT).max(PART_BYTES / UNIT);
        (all.saturating_sub(self.0.core.memory.available_permits()) * UNIT) as u64
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    /// Has something done on the store's thread, and waits for it on any other's runtime.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (done, result) = oneshot::channel();
        self.core().handle.spawn(async move { drop(done.send(work.await)) });
        result.await.unwrap_or_else(|_| Err(Failure::ended()))
    }

    /// The same for callers without a runtime; gives up after a time.
    fn wait<T: Send + 'static>(
        &self,
        within: Duration,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (done, result) = std::sync::mpsc::channel();
        let work = async move { timeout(within, work).await.unwrap_or_else(|_| Err(Failure::late())) };
        self.core().handle.spawn(async move { drop(done.send(work.await)) });
        result.recv().unwrap_or_else(|_| Err(Failure::ended()))
    }

    /// Begins an object of so many bytes. It waits for memory for a moment. `kept` is dropped when the object is there, or when
    /// the store has been told to forget what came of it.
    ///
    /// # Errors
    /// [`Reason::NoMemory`]; [`Reason::Wrong`]: it is larger than [`crate::OBJECT_BYTES_MAX`].
    pub async fn begin<T: Send + Sync + 'static>(
        &self,
        key: &str,
        bytes: u64,
        kept: T,
    ) -> Result<Incoming, Failure> {
        let core = self.core().clone();
        let (path, kept) = (core.path(key), Box::new(kept));
        self.run(async move { Incoming::begin(core, path, bytes, kept).await }).await
    }

    /// Removes objects, whether they are there or not. Blocks the caller for at most `within`. Returns those that are gone, and
    /// why the next is not; `None`: all are.
    #[must_use]
    pub fn remove(&self, keys: Vec<String>, within: Duration) -> (Vec<String>, Option<Failure>) {
        let core = self.core().clone();
        let gone = Arc::new(Mutex::new(Vec::new()));
        let noted = gone.clone();
        let work = async move {
            let remove = |key: String| {
                let core = core.clone();
                async move {
                    match core.s3.delete(&core.path(&key)).await.map_err(Failure::from) {
                        Err(failure) if failure.reason != Reason::Absent => Err(failure),
                        _ => Ok(key),
                    }
                }
            };
            let mut removals = stream::iter(keys).map(remove).buffered(REMOVALS);
            while let Some(removed) = removals.next().await {
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(removed?);
            }
            Ok(())
        };
        let failure = self.wait(within, work).err();
        let gone = std::mem::take(&mut *gone.lock().unwrap_or_else(PoisonError::into_inner));
        (gone, failure)
    }

    /// The last parts of the names of objects in a folder. Blocks the caller for at most `within`.
    ///
    /// # Errors
    /// Why they cannot be told.
    pub fn list(&self, folder: &str, within: Duration) -> Result<Vec<String>, Failure> {
        let core = self.core().clone();
        let folder = core.path(folder);
        self.wait(within, async move {
            let mut names = Vec::new();
            let mut found = core.s3.list(Some(&folder));
            while let Some(object) = found.next().await {
                names.extend(object?.location.filename().map(str::to_owned));
                if names.len() == LISTED_MAX {
                    break;
                }
            }
            Ok(names)
        })
    }

    /// Aborts uploads that were begun under the prefix and not finished, but for those that `is_under_way` knows by their keys.
    /// Blocks the caller for at most `within`. Returns how many.
    ///
    /// # Errors
    /// Why the rest stays.
    pub fn abort_unfinished(
        &self,
        within: Duration,
        is_under_way: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<u64, Failure> {
        let core = self.core().clone();
        self.wait(within, async move { core.abort_unfinished(&is_under_way).await })
    }
}

impl Core {
    /// The whole name of an object.
    pub(crate) fn path(&self, key: &str) -> Path {
        match self.settings.prefix.is_empty() {
            true => Path::from(key),
            false => Path::from(format!("{}/{key}", self.settings.prefix)),
        }
    }

    /// Memory for a part of so many bytes.
    pub(crate) async fn memory(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let units = u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX);
        let full = || {
            Failure::new(Reason::NoMemory, "uploads to the object store hold all the memory that they may")
        };
        let given = timeout(MEMORY_WAIT, self.memory.clone().acquire_many_owned(units)).await;
        given.map_err(|_| full())?.map_err(|_| full())
    }

    pub(crate) fn count_aborted(&self) {
        self.counts.aborted.fetch_add(1, Ordering::Relaxed);
    }
}
