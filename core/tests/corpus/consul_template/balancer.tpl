{{ range service "web" }}server {{ .Address }}:{{ .Port }};
{{ else }}server 127.0.0.1:1;
{{ end }}