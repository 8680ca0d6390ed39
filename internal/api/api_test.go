// Package api keeps the list of what the module exports.
package api

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write api.txt anew")

// TestExportedNames compares what the packages export with api.txt, which has a line for
// each name, without the names of parameters. Whoever changes it on purpose runs the test
// with -rewrite, and says so in the changelog.
func TestExportedNames(t *testing.T) {
	var lines []string
	for _, p := range packages(t) {
		lines = append(lines, exports(t, p)...)
	}
	have := strings.Join(lines, "\n") + "\n"
	if *rewrite {
		require.NoError(t, os.WriteFile("api.txt", []byte(have), 0o644))
	}
	text, err := os.ReadFile("api.txt")
	require.NoError(t, err)
	want := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for _, line := range want {
		assert.True(t, slices.Contains(lines, line), "%s: no longer exported; if that is meant, go test ./internal/api -rewrite", line)
	}
	for _, line := range lines {
		assert.True(t, slices.Contains(want, line), "%s: exported, and not in api.txt; if that is meant, go test ./internal/api -rewrite", line)
	}
}

// packages returns the folders of the packages that hosts can import, also those of nested
// modules.
func packages(t *testing.T) (folders []string) {
	t.Helper()
	root := filepath.Join("..", "..")
	require.NoError(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == root {
			return err
		}
		if name := d.Name(); name == "internal" || name == "examples" || name == "testdata" || strings.HasPrefix(name, ".") {
			return filepath.SkipDir
		}
		folder, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if p, err := build.ImportDir(path, 0); err == nil && p.Name != "main" && len(p.GoFiles) > 0 {
			folders = append(folders, filepath.ToSlash(folder))
		}
		return nil
	}))
	return folders
}

// exports has a line for each name that a package exports, sorted.
func exports(t *testing.T, folder string) (lines []string) {
	t.Helper()
	linux := build.Default
	linux.GOOS, linux.GOARCH, linux.CgoEnabled = "linux", "amd64", false
	dir := filepath.Join("..", "..", filepath.FromSlash(folder))
	p, err := linux.ImportDir(dir, 0)
	require.NoError(t, err)
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	of, err := doc.NewFromFiles(fset, files, "example.com/lockstore/"+folder)
	require.NoError(t, err)
	add := func(format string, args ...any) {
		lines = append(lines, folder+": "+fmt.Sprintf(format, args...))
	}
	values := func(kind string, all []*doc.Value) {
		for _, v := range all {
			for _, name := range v.Names {
				if token.IsExported(name) {
					add("%s %s", kind, name)
				}
			}
		}
	}
	functions := func(all []*doc.Func) {
		for _, f := range all {
			receiver := ""
			if f.Recv != "" {
				receiver = "(" + f.Recv + ") "
			}
			add("func %s%s%s", receiver, f.Name, text(t, fset, f.Decl.Type)[len("func"):])
		}
	}
	values("const", of.Consts)
	values("var", of.Vars)
	functions(of.Funcs)
	for _, typ := range of.Types {
		values("const", typ.Consts)
		values("var", typ.Vars)
		functions(typ.Funcs)
		functions(typ.Methods)
		for _, s := range typ.Decl.Specs {
			s := s.(*ast.TypeSpec)
			parameters := ""
			if s.TypeParams != nil {
				parameters = "[" + list(t, fset, s.TypeParams) + "]"
			}
			switch of := s.Type.(type) {
			case *ast.StructType:
				add("type %s%s struct", s.Name, parameters)
				members(t, fset, of.Fields, func(name, is string) { add("field %s.%s %s", s.Name, name, is) })
			case *ast.InterfaceType:
				add("type %s%s interface", s.Name, parameters)
				members(t, fset, of.Methods, func(name, is string) { add("in %s: %s%s", s.Name, name, strings.TrimPrefix(is, "func")) })
			default:
				add("type %s%s %s", s.Name, parameters, text(t, fset, s.Type))
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// members tells of exported fields or methods, and of what is embedded.
func members(t *testing.T, fset *token.FileSet, of *ast.FieldList, tell func(name, is string)) {
	for _, f := range of.List {
		is := text(t, fset, f.Type)
		if len(f.Names) == 0 {
			tell("", is)
		}
		for _, name := range f.Names {
			if name.IsExported() {
				tell(name.Name, is)
			}
		}
	}
}

// list are type parameters with their constraints.
func list(t *testing.T, fset *token.FileSet, of *ast.FieldList) string {
	var all []string
	for _, f := range of.List {
		for _, name := range f.Names {
			all = append(all, name.Name+" "+text(t, fset, f.Type))
		}
	}
	return strings.Join(all, ", ")
}

// text is an expression in one line, without the names of parameters.
func text(t *testing.T, fset *token.FileSet, of ast.Expr) string {
	t.Helper()
	ast.Inspect(of, func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncType); ok {
			unnamed(f.Params)
			unnamed(f.Results)
		}
		return true
	})
	var b bytes.Buffer
	require.NoError(t, printer.Fprint(&b, fset, of))
	return strings.Join(strings.Fields(b.String()), " ")
}

func unnamed(of *ast.FieldList) {
	if of == nil {
		return
	}
	var all []*ast.Field
	for _, f := range of.List {
		for range max(1, len(f.Names)) {
			all = append(all, &ast.Field{Type: f.Type})
		}
	}
	of.List = all
}
