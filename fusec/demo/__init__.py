"""The demo: real little classifiers of many tenants, compiled into one plan and checked.

`fusec.demo.run.run_demo` does it, `fusec.demo.report.DemoReport` is what it returns.
"""
