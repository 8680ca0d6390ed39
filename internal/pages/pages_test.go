// Package pages has tests of what the module's pages say.
package pages

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

// markdown are the module's pages, and those of the modules below it.
func markdown(t *testing.T) []string { return files(t, ".md") }

// files are the files whose names end so, also those of the modules below.
func files(t *testing.T, suffix string) (paths []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") && d.Name() != "..":
			return filepath.SkipDir
		case strings.HasSuffix(path, suffix):
			paths = append(paths, path)
		}
		return nil
	}))
	require.NotEmpty(t, paths)
	return paths
}

var (
	linkRE    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingRE = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fenceRE   = regexp.MustCompile("(?ms)^```.*?^```")
)

// anchors are the headings of a page as links name them.
func anchors(page string) (all []string) {
	for _, h := range headingRE.FindAllStringSubmatch(fenceRE.ReplaceAllString(page, ""), -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(h[1])) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-', r == '_', 'a' <= r && r <= 'z', '0' <= r && r <= '9', r > 127:
				b.WriteRune(r)
			}
		}
		all = append(all, b.String())
	}
	return all
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, path := range markdown(t) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, link := range linkRE.FindAllStringSubmatch(fenceRE.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(link[1], "://") || strings.HasPrefix(link[1], "mailto:") {
				continue
			}
			to, anchor, _ := strings.Cut(link[1], "#")
			target := path
			if to != "" {
				target = filepath.Join(filepath.Dir(path), filepath.FromSlash(to))
			}
			info, err := os.Stat(target)
			if !assert.NoError(t, err, "%s links to %s", path, link[1]) || anchor == "" || info.IsDir() {
				continue
			}
			page, err := os.ReadFile(target)
			require.NoError(t, err)
			assert.Contains(t, anchors(string(page)), anchor, "%s links to %s", path, link[1])
		}
	}
}

var (
	testRE     = regexp.MustCompile(`\b(?:Test|Benchmark|Fuzz|Example)[A-Z0-9]\w*`)
	testFuncRE = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz|Example)\w+)\(`)
	pathRE     = regexp.MustCompile("`([\\w./-]+\\.(?:go|md|sql))`")
)

func TestPagesNameTestsAndFilesThatAreThere(t *testing.T) {
	tests := map[string]bool{}
	for _, path := range files(t, "_test.go") {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, f := range testFuncRE.FindAllStringSubmatch(string(text), -1) {
			tests[f[1]] = true
		}
	}
	for _, path := range markdown(t) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, name := range testRE.FindAllString(string(text), -1) {
			assert.True(t, tests[name], "%s names %s", path, name)
		}
		for _, file := range pathRE.FindAllStringSubmatch(string(text), -1) {
			_, err := os.Stat(filepath.Join(root, filepath.FromSlash(file[1])))
			if err != nil { // or it is beside the page
				_, err = os.Stat(filepath.Join(filepath.Dir(path), filepath.FromSlash(file[1])))
			}
			assert.NoError(t, err, "%s names %s", path, file[1])
		}
	}
}

// Places in the list of questions: a symbol of a package that hosts import, a file, or
// a function or a type in one.
var (
	questionRE = regexp.MustCompile(`(?m)^\| *(\d+) *\|(.*)\|(.*)\|$`)
	placeRE    = regexp.MustCompile("`([^`]+)`|" + linkRE.String())
	symbolRE   = regexp.MustCompile(`^(lock|metadata|backoff|pgtest|locktest|storetest)((?:\.[A-Z]\w*)+)$`)
	fileRE     = regexp.MustCompile(`^([\w./-]+\.(?:go|md|sql))(?::(\w+))?$`)
)

// TestQuestionsHaveAnswers looks whether the places to which docs/questions.md leads are there.
func TestQuestionsHaveAnswers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "questions.md"))
	require.NoError(t, err)
	questions := questionRE.FindAllStringSubmatch(string(text), -1)
	require.GreaterOrEqual(t, len(questions), 20)
	for _, q := range questions {
		places := 0
		for _, place := range placeRE.FindAllStringSubmatch(q[3], -1) {
			switch name := place[1]; {
			case name == "":
				places++ // a link, which TestLinksLeadSomewhere follows
			case symbolRE.MatchString(name):
				places++
				m := symbolRE.FindStringSubmatch(name)
				folder := map[string]string{"locktest": "lock/locktest", "storetest": "metadata/storetest"}[m[1]]
				if folder == "" {
					folder = m[1]
				}
				files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
				require.NoError(t, err)
				assert.True(t, declares(t, strings.Split(m[2][1:], "."), files...), "question %s: %s", q[1], name)
			case fileRE.MatchString(name):
				places++
				m := fileRE.FindStringSubmatch(name)
				path := filepath.Join(root, filepath.FromSlash(m[1]))
				if assert.FileExists(t, path, "question %s", q[1]) && m[2] != "" {
					assert.True(t, declares(t, []string{m[2]}, path), "question %s: %s", q[1], name)
				}
			}
		}
		assert.NotZero(t, places, "question %s has no place where it is answered", q[1])
	}
}

// declares reports whether files declare a name, or a member of a type, also one of a type
// that is embedded there.
func declares(t *testing.T, name []string, files ...string) bool {
	t.Helper()
	types, names := map[string]ast.Expr{}, map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names[d.Name.Name] = true
				if d.Recv != nil {
					names[typeName(d.Recv.List[0].Type)+"."+d.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.ValueSpec:
						for _, n := range s.Names {
							names[n.Name] = true
						}
					case *ast.TypeSpec:
						names[s.Name.Name], types[s.Name.Name] = true, s.Type
					}
				}
			}
		}
	}
	var has func(of, member string) bool
	has = func(of, member string) bool {
		if names[of+"."+member] {
			return true
		}
		var fields *ast.FieldList
		switch is := types[of].(type) {
		case *ast.StructType:
			fields = is.Fields
		case *ast.InterfaceType:
			fields = is.Methods
		default:
			return false
		}
		return slices.ContainsFunc(fields.List, func(f *ast.Field) bool {
			return len(f.Names) == 0 && has(typeName(f.Type), member) ||
				slices.ContainsFunc(f.Names, func(n *ast.Ident) bool { return n.Name == member })
		})
	}
	if len(name) == 1 {
		return names[name[0]]
	}
	return has(name[0], name[1])
}

// typeName is the name of a type, or of what a pointer points to.
func typeName(of ast.Expr) string {
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if id, ok := of.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
