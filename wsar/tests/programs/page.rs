//! The page in a browser.

use crate::browser::Browser;
use crate::serve::serve;
use crate::support::{Client, Server, output};

/// Notes what is written on canvases, with where.
const NOTES: &str = "window.written = []; var fill = CanvasRenderingContext2D.prototype.fillText;\
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {\
      if (/^\\d\\d:\\d\\d(:\\d\\d)?$/.test(text)) written.push([text, x, this.canvas.width]); fill.call(this, text, x, y); }";

/// The pointer over the chart of the CPU: what it does, and how far from the left.
const FIRE: &str = "var over = document.querySelector('#chart-cpu .u-over');\
    var fire = (to, type, part) => { const r = over.getBoundingClientRect();\
      to.dispatchEvent(new MouseEvent(type, {bubbles: true, button: 0, movementX: 1, clientX: r.left + r.width * part, clientY: r.top + r.height / 2})); }";

#[test]
fn charts_and_tiles_show_columns_that_there_are() {
    let source = include_str!("../../web/figures.js");
    let charts = source.split("line('").skip(1);
    let tiles =
        source.split("title: '").skip(1).filter_map(|tile| tile.split_once("', id: '")).map(|(_, id)| id);
    let ids: Vec<&str> = charts.chain(tiles).map(|rest| rest.split('\'').next().unwrap()).collect();
    assert!(
        ids.len() > 60 && ids.contains(&"archive.page_p99") && ids.contains(&"space.free_part"),
        "{ids:?}"
    );
    for id in ids {
        let (table, column) = (id.split('.').next().unwrap(), id.rsplit('.').next().unwrap());
        let known = wsar::table::named(table).unwrap_or_else(|| panic!("there is no table {table}"));
        assert!(known.columns.iter().any(|known| known.key == column), "there is no figure {id}");
    }
}

#[test]
fn labels_of_a_dragged_range_stand_where_their_times_are() {
    let data = tempfile::tempdir().unwrap();
    output(data.path(), &["record", "--every", "0.1", "--count", "20"]);
    let (_running, address) = serve(data.path());
    let Some(mut browser) = Browser::open(data.path(), (1280, 900)) else { return };
    browser.go(&format!("http://{address}/"));
    browser.wait("document.querySelectorAll('.chart canvas').length > 5 && document.getElementById('chart-cpu').querySelector('.u-over')");
    // Fractions of the width that are no whole seconds. All in one go: what the page says above may move the charts.
    browser.value(&format!("{NOTES}; {FIRE}; fire(over, 'mouseenter', 0.313); fire(over, 'mousemove', 0.313);\
        fire(over, 'mousedown', 0.313); fire(over, 'mousemove', 0.5); fire(over, 'mousemove', 0.777); fire(document, 'mouseup', 0.777)"));
    browser.wait("location.hash.includes('from=') && !document.body.classList.contains('waiting') && written.length > 3");
    // uPlot's own padding and axis, as in charts.js.
    let early = "(() => { const hash = new URLSearchParams(location.hash.slice(1)); const from = +hash.get('from'), to = +hash.get('to');\
        return written.filter(([text, x, width]) => {\
          const area = width - 70 - 20; const d = new Date(from + (x - 70) / area * (to - from)); const [h, m, s] = text.split(':').map(Number);\
          const at = new Date(d); at.setHours(h, m, s ?? 0, 0); return Math.abs(at - d) > (to - from) / area * 2; }).join(' '); })()";
    assert_eq!(browser.value(early), "");
    assert_eq!(
        browser.value(
            "['from', 'to'].map((n) => new URLSearchParams(location.hash.slice(1)).get(n) % 1000).join()"
        ),
        "0,0"
    );

    // The pointer shows the time, and the lines in the order of their values.
    browser.go(&format!("http://{address}/#live=300"));
    browser.wait("location.hash === '#live=300'");
    browser.wait("document.querySelectorAll('#chart-cpu .key b')[0].textContent.includes('%')");
    let told = format!(
        "{FIRE}; fire(over, 'mouseenter', 0.99); fire(over, 'mousemove', 0.99);\
        (() => {{ const t = document.querySelector('#chart-cpu .tooltip'); return !t.hidden && t.querySelector('caption').textContent; }})()"
    );
    let time = browser.wait(&told);
    assert_eq!(time.as_str().unwrap().matches(':').count(), 2, "{time}");
    let sorted = "(() => { const v = [...document.querySelectorAll('#chart-cpu .tooltip tbody tr')].map((r) => parseFloat(r.children[1].textContent));\
        return v.length > 3 && v.every((n, i) => i === 0 || !(v[i - 1] < n)); })()";
    assert_eq!(browser.value(sorted), true);
}

/// Records samples of a day before now and of now, ten of each, a second apart.
fn record_two_days(data: &std::path::Path) -> u64 {
    use wsar::record::{Bounds, Recorder};
    let mut collector = wsar::collect::Collector::new(data);
    let now_ms = wsar::time::now_ms();
    let mut recorder =
        Recorder::open(&data.join("wsar"), Bounds { bytes: 1 << 24, age_ms: 1 << 40 }).expect("a recorder");
    for start in [now_ms - 86_400_000 - 60_000, now_ms - 60_000] {
        for second in 0..30 {
            let mut sample = collector.sample();
            sample.time_ms = start + second * 1_000;
            recorder.push(&sample).expect("a sample is taken");
        }
    }
    recorder.flush().expect("a disk");
    now_ms
}

#[test]
fn any_time_can_be_picked_and_yesterday_lies_beneath() {
    let data = tempfile::tempdir().unwrap();
    let now_ms = record_two_days(data.path());
    let (_running, address) = serve(data.path());
    let Some(mut browser) = Browser::open(data.path(), (1280, 900)) else { return };
    browser.go(&format!("http://{address}/#last=3600"));
    browser.wait("document.querySelectorAll('.chart canvas').length > 5 && !document.body.classList.contains('waiting')");
    // Dashed lines of the colours of the chart, where there is a yesterday.
    browser.value("window.dashes = 0; const set = CanvasRenderingContext2D.prototype.setLineDash;\
        CanvasRenderingContext2D.prototype.setLineDash = function (dash) { if (dash[0] === 3 * devicePixelRatio) dashes += 1; set.call(this, dash); }");
    browser.value("document.getElementById('compare').click()");
    browser.wait("document.getElementById('compare').getAttribute('aria-pressed') === 'true' && dashes > 0");
    browser.value("document.getElementById('compare').click()");
    browser.wait("document.getElementById('compare').getAttribute('aria-pressed') === 'false'");

    // A time as a person writes it; there is nothing that long ago.
    let pick = |from: i64, to: i64| {
        let local = "const two = (n) => String(n).padStart(2, '0'); const local = (ms) => { const d = new Date(ms);\
            return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}T${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`; };";
        format!(
            "(() => {{ {local} document.getElementById('any').open = true;\
            document.getElementById('picker-from').value = local({from}); document.getElementById('picker-to').value = local({to});\
            document.querySelector('#picker button').click(); }})()"
        )
    };
    // It is filled in when it opens, which comes a moment after.
    browser.value("document.getElementById('any').open = true");
    browser.wait("document.getElementById('picker-from').value !== ''");
    let day = 86_400_000;
    let now = i64::try_from(now_ms).unwrap() / 1000 * 1000;
    browser.value(&pick(now - 5 * day, now - 4 * day));
    browser.wait("document.getElementById('shown').textContent.includes('recorded since')");
    // An end before the begin is told, and nothing else happens.
    let hash = browser.value("location.hash");
    browser.value("document.getElementById('any').open = true");
    browser.wait("document.getElementById('picker-from').value !== ''");
    browser.value(&pick(now, now - day));
    assert_eq!(
        browser.value("document.getElementById('picker-to').validationMessage"),
        "The end must be after the begin."
    );
    assert_eq!(browser.value("location.hash"), hash);
    // Everything that is recorded.
    browser.value("document.getElementById('picker-all').click()");
    browser.wait("document.getElementById('shown').textContent.includes('1 d 0 h')");
}

#[test]
fn an_incident_is_answered_on_a_phone() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let (_running, address) = serve(data.path());
    let Some(mut browser) = Browser::open(data.path(), (400, 900)) else { return };
    browser.go(&format!("http://{address}/"));
    browser.wait("document.querySelectorAll('#queues .link').length > 5");
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 400);
    // A click on a queue tells what it is and what to do.
    browser.value("document.querySelector('#queue-output .link').click()");
    browser.wait("document.getElementById('explain').open");
    let told = browser.value("document.getElementById('explain').innerText");
    let told = told.as_str().unwrap();
    assert!(told.contains("limits.output_backlog_bytes") && told.contains("read slowly"), "{told}");
    browser.value("document.getElementById('explain').close()");
    // So does one on a refusal, and the event lane has the first of it.
    let mut client = Client::login(&server, "r");
    client.say("<not-well-formed></>");
    client.hear("</stream:stream>");
    browser.wait("document.querySelector('#incident .refusals .link')?.textContent === 'framing'");
    browser.wait("document.getElementById('events').innerText.includes('First refusal by framing')");
    browser.value("document.querySelector('#incident .refusals .link').click()");
    browser.wait("document.getElementById('explain').innerText.includes('limits.stanza_bytes')");
    browser.value("document.getElementById('explain').close()");
    // Who it was.
    let mut client = Client::login(&server, "r");
    let find = "document.querySelector('#incident .accounts .name')?.textContent";
    let mut name = browser.value(find);
    let begun = std::time::Instant::now();
    while name.is_null() {
        assert!(begun.elapsed() < crate::support::PATIENCE, "nobody is told");
        client.say("<message to='nobody@localhost'><body>hi</body></message>");
        std::thread::sleep(std::time::Duration::from_millis(100));
        name = browser.value(find);
    }
    assert_eq!(name, "juliet@localhost");
    browser.value("document.querySelector('[data-by=failed]').click()");
    browser.wait("document.querySelector('#incident .accounts .empty')?.textContent === 'none'");
    // Sections fold.
    assert_eq!(browser.value("document.getElementById('charts-machine').offsetHeight > 100"), true);
    browser
        .value("document.querySelector('[aria-label=\"Fold or unfold the charts of the machine\"]').click()");
    browser.wait("document.getElementById('charts-machine').offsetHeight === 0");
}
