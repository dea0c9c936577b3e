//! The page in a browser.

use crate::browser::Browser;
use crate::serve::serve;
use crate::support::output;

/// Notes what is written on canvases, with where.
const NOTES: &str = "window.written = []; var fill = CanvasRenderingContext2D.prototype.fillText;\
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {\
      if (/^\\d\\d:\\d\\d(:\\d\\d)?$/.test(text)) written.push([text, x, this.canvas.width]); fill.call(this, text, x, y); }";

/// The pointer over the chart of the CPU: what it does, and how far from the left.
const FIRE: &str = "var over = document.querySelector('#chart-cpu .u-over');\
    var fire = (to, type, part) => { const r = over.getBoundingClientRect();\
      to.dispatchEvent(new MouseEvent(type, {bubbles: true, button: 0, movementX: 1, clientX: r.left + r.width * part, clientY: r.top + r.height / 2})); }";

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
