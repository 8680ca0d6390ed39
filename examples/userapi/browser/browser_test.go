// Package browser tests the console of examples/userapi in a real browser, with the keyboard.
package browser

import (
	"bufio"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// serve runs the service on a database, and returns its address and a function that ends it.
func serve(t *testing.T, db *pgtest.DB) (base string, end func()) {
	binary := filepath.Join(t.TempDir(), "userapi")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = ".."
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	service := exec.Command(binary, "-addr", "127.0.0.1:0", "-migrate")
	service.Env = append(os.Environ(), "LOCKSTORE_DSN="+db.URL())
	stderr, err := service.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, service.Start())
	said := bufio.NewScanner(stderr)
	listening := regexp.MustCompile(`console=(http://\S+)/locks`)
	for base == "" && said.Scan() {
		if m := listening.FindStringSubmatch(said.Text()); m != nil {
			base = m[1]
		}
	}
	require.NotEmpty(t, base, "it ended")
	var drained sync.WaitGroup
	drained.Go(func() {
		for said.Scan() {
		}
	})
	end = sync.OnceFunc(func() {
		assert.NoError(t, service.Process.Signal(os.Interrupt))
		drained.Wait()
		assert.NoError(t, service.Wait())
	})
	t.Cleanup(end)
	return base, end
}

// newBrowser starts a browser. The test is skipped if there is none.
func newBrowser(t *testing.T) context.Context {
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		t.Skip("no browser to test the console in: apt-get install chromium")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WindowSize(1100, 760),
		chromedp.UserDataDir(t.TempDir()), chromedp.DisableGPU, chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate("about:blank")))
	return ctx
}

// shot saves a screenshot in the directory that SCREENSHOTS names, if it is set.
func shot(t *testing.T, ctx context.Context, name string) {
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, scheme := range []string{"light", "dark"} {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		require.NoError(t, err)
		png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+"-"+scheme+".png"), png, 0o644))
	}
}

func TestLockAppearsIsEvictedAndIsGone(t *testing.T) {
	browser := newBrowser(t)
	db := pgtest.New(t)
	base, end := serve(t, db)
	store, err := metadata.NewPostgres(db.Pool(), &metadata.Options{Table: metadata.Table{Name: "users", Version: "version"}})
	require.NoError(t, err)
	defer store.Close()
	locker, err := lock.NewPostgres(t.Context(), db.Pool(), nil)
	require.NoError(t, err)
	defer locker.Close(context.Background())

	var mu sync.Mutex
	var complaints []string
	require.NoError(t, chromedp.Listen(browser, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme != "data" && !strings.HasPrefix(e.Request.URL, base+"/") {
				complaints = append(complaints, "asked for "+e.Request.URL)
			}
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			complaints = append(complaints, e.Entry.Text)
		}
	}))
	_, err = chromedp.Call(browser, network.Enable, network.EnableParams{})
	require.NoError(t, err)
	do := func(actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		require.NoError(t, chromedp.Do(browser, actions...))
	}
	ask := func(question chromedp.Action[string]) string {
		t.Helper()
		text, err := chromedp.Run(browser, question)
		require.NoError(t, err)
		return text
	}
	focused := func() string {
		t.Helper()
		return ask(chromedp.Evaluate[string](`document.activeElement.id || document.activeElement.textContent`))
	}
	// until presses a key until the element has the focus.
	until := func(id, key string, with ...chromedp.Modifier) {
		t.Helper()
		for range 20 {
			if focused() == id {
				return
			}
			do(chromedp.KeyEvent(key, chromedp.KeyModifiers(with...)))
		}
		require.Equal(t, id, focused(), "within 20 keys")
	}
	do(chromedp.Navigate(base+"/locks"), chromedp.WaitVisible(`//em[text()="Nothing is held."]`))
	do(chromedp.WaitVisible(`//*[@id="live"][text()="Live."]`))

	_, err = store.Merge(t.Context(), "ann", []byte(`{"plan":"pro","limits":{"seats":5}}`))
	require.NoError(t, err)
	held, err := locker.Lock(t.Context(), store.Key("ann"))
	require.NoError(t, err)
	key := strconv.FormatInt(held.Key().Int64(), 10)
	row := `//tr[@data-key="` + key + `"]`
	do(chromedp.WaitVisible(row))
	assert.Contains(t, ask(chromedp.Text(row)), "ann")
	shot(t, browser, "list")

	until("evict-"+key, kb.Tab)
	other, err := locker.Lock(t.Context(), store.Key("bob"))
	require.NoError(t, err)
	do(chromedp.WaitVisible(`//tr[@data-key="` + strconv.FormatInt(other.Key().Int64(), 10) + `"]`))
	assert.Equal(t, "evict-"+key, focused(), "after the list has changed")
	require.NoError(t, other.Unlock())

	do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(`//*[@id="yes"]`))
	assert.NoError(t, held.Context().Err(), "it asks first")
	assert.Equal(t, "Cancel", focused())
	shot(t, browser, "evict")
	do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(row))
	assert.NoError(t, held.Context().Err(), "it was cancelled")
	until("user-"+key, kb.Tab)
	do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(`//pre`))
	assert.JSONEq(t, `{"plan":"pro","limits":{"seats":5}}`, ask(chromedp.Text(`//pre`)))
	shot(t, browser, "user")
	do(chromedp.Navigate(base+"/locks"), chromedp.WaitVisible(row))
	until("evict-"+key, kb.Tab)
	do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(`//*[@id="yes"]`))
	until("yes", kb.Tab, chromedp.ModifierShift) // back from Cancel
	do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(`//em[text()="Nothing is held."]`))
	<-held.Context().Done()
	assert.ErrorIs(t, context.Cause(held.Context()), lock.ErrEvicted)
	mu.Lock()
	assert.Empty(t, complaints)
	mu.Unlock()

	end()
	do(chromedp.WaitVisible(`//*[@id="live"][starts-with(text(), "The service does not answer.")]`))
}
