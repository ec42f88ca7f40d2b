"""The Flower engine: the coordinator's loop as a ServerApp, a site's visit as a ClientApp.

    records       what one message carries       bundle        what Flower ships, and its digest
    engine        orders out, results in         site_program  what a site runs for each message
    server_app    the study's loop               supernode     start a site, with the site's `keys`
    client_app    a site's answer, through a     simulation    all sites in Flower's simulation
                  `message_link`                               runtime

Flower sends a message to a site and gets one reply; nothing else crosses meanwhile. So an order
goes out with the parts it needs, and its result comes back whole. No other package imports flwr.
"""
