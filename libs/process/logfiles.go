package process

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"opensandbox/libs/settings"
	"opensandbox/libs/telemetry"
)

// logFiles are where the log goes, and what follows SIGHUP. The zero value is not usable: see openLogs.
type logFiles struct {
	// log is a file, or what the process was given.
	log   io.Writer
	files []*telemetry.LogFile
	// hangups receives SIGHUP until close; followed is done when nobody listens to it any more.
	hangups  chan os.Signal
	followed *sync.WaitGroup
}

// openLogs opens the files of log.file_enabled, else the log goes to stderr. Only processes that serve clients have an access log.
func openLogs(s settings.Settings, stderr io.Writer) (logFiles, error) {
	f := logFiles{log: stderr, hangups: make(chan os.Signal, 1), followed: &sync.WaitGroup{}}
	if !s.Log.FileEnabled {
		return f, nil
	}
	paths := []string{s.Log.FilePath}
	if s.ServesAPI() {
		paths = append(paths, s.Log.AccessFilePath)
	}
	for _, path := range paths {
		file, err := telemetry.OpenLogFile(path, int64(s.Log.FileMaxBytes), s.Log.FileBackups)
		if err != nil {
			for _, opened := range f.files {
				_ = opened.Close()
			}
			return f, err
		}
		f.files = append(f.files, file)
	}
	f.log = f.files[0]
	return f, nil
}

// access returns the logger of requests, or nil. Its level is that of no setting: the access log is asked for as a whole.
func (f logFiles) access(s settings.Settings) (*slog.Logger, error) {
	if len(f.files) < 2 {
		return nil, nil
	}
	return telemetry.Logger(f.files[1], "INFO", s.Log.Format, origin())
}

// follow opens the files again at each SIGHUP. Without files the signal is taken and means nothing: "reload" of a service manager must not
// end the process.
func (f logFiles) follow(log *slog.Logger) {
	signal.Notify(f.hangups, syscall.SIGHUP)
	f.followed.Go(func() {
		for range f.hangups {
			var failed []error
			for _, file := range f.files {
				failed = append(failed, file.Reopen())
			}
			if err := errors.Join(failed...); err != nil {
				log.Error("log files were not opened again; the old ones go on", "error", err)
				continue
			}
			log.Info("SIGHUP: log files were opened again", "files", len(f.files))
		}
	})
}

// close may be called once, whether follow was or not.
func (f logFiles) close() {
	signal.Stop(f.hangups)
	close(f.hangups)
	f.followed.Wait()
	for _, file := range f.files {
		_ = file.Close() // nothing is buffered
	}
}
