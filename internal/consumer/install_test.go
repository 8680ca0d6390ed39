package consumer

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestInstallAsTheREADMESays runs its commands in a new module, before it imports
// anything of lockstore and after that.
func TestInstallAsTheREADMESays(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	install := regexp.MustCompile("(?s)## Install\n+```sh\n(.*?)```").FindSubmatch(readme)
	if install == nil {
		t.Fatal("the README has no commands to install with")
	}
	copied, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	const program = "cat >main.go <<'end'\npackage main\n\nimport _ \"example.com/lockstore/metadata\"\n\nfunc main() {}\nend\n"
	for name, script := range map[string]string{
		"import last":  string(install[1]) + program,
		"import first": program + string(install[1]),
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sh", "-ec", "go mod init app\n"+strings.ReplaceAll(script, "../lockstore", `"`+copied+`"`)+"go vet .\ngo mod tidy\ngo vet .\n")
			cmd.Dir = t.TempDir()
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		})
	}
}
